"""What a training platform such as ModelArts hands over with a job: names of flags, variables and keys of a recipe."""

ENABLED = "enable_modelarts"
"""Whether there is a platform; without it the other names have no effect."""
HANDED_OVER = ("data_url", "train_url", "ckpt_url", "multi_data_url", "pretrain_url", "data_dir")
"""Names of data, results and weights. They are about a job and not about a recipe."""
