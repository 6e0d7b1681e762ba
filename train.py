"""`python train.py --config RECIPE ...`: a door to `maskrcnn train` that keeps its ancestor's flags."""

from maskrcnn.cli.doors import train

if __name__ == "__main__":
    train()
