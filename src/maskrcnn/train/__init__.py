"""Training: `loop.run` carries a recipe to weights, numbers and a report."""
