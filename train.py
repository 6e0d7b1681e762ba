"""`python train.py --config RECIPE ...`: the seed system's flags for `maskrcnn train`."""

from maskrcnn.cli import be_ready

if __name__ == "__main__":
    be_ready()
    from maskrcnn.cli.seed_scripts import train

    train()
