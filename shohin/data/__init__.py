"""Data: :class:`Dataset`, and loaders of public data sets that check what they load. NumPy only."""

from shohin.data.cifar10 import cifar10
from shohin.data.dataset import Dataset
from shohin.data.fashion_mnist import fashion_mnist
from shohin.data.files import cache_dir
from shohin.data.speech_commands import speech_commands

__all__ = ["Dataset", "cache_dir", "cifar10", "fashion_mnist", "speech_commands"]
