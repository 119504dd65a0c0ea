"""Models from Hugging Face: what a config.json says of a transformer."""

from perfmodel.workload.huggingface.read import from_config as from_config
from perfmodel.workload.huggingface.read import read_config as read_config
from perfmodel.workload.huggingface.read import read_table as read_table
