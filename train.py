"""`python train.py --config RECIPE ...`: the seed system's flags for `maskrcnn train`."""

from maskrcnn.cli.seed_scripts import train

if __name__ == "__main__":
    train()
