"""Text in any script: the fonts of the machine, what letters each has, and a line of text set in them.

Pillow's own font draws what it has letters for; what it lacks is drawn in a font of the system, or in the one that
`MASKRCNN_FONT` names. Where no font has the letters of a name, a `Note` says so, once in a process.
"""

from maskrcnn.fonts.notes import note_unreadable
from maskrcnn.fonts.typeset import Typeset, typeset

__all__ = ["Typeset", "note_unreadable", "typeset"]
