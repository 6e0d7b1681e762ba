"""How fast this machine trains, predicts and evaluates, how fast it could, and how fast torchvision does the same."""
