"""`python eval.py --config RECIPE ...`: a door to `maskrcnn eval` that keeps its ancestor's flags."""

from maskrcnn.cli.doors import evaluate

if __name__ == "__main__":
    evaluate()
