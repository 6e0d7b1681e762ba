"""Object storage and web addresses: where files lie that are on no disk, and how their bytes come here."""
