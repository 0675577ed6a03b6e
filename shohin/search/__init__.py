"""Search: plain Python that asks. ``search`` tries what ``build`` can be and keeps what fits the budget."""

from shohin.deploy.budget import Budget
from shohin.search.space import Space, Trial
from shohin.search.strategies import Evolution, Random, Strategy
from shohin.search.study import Record, Study, search

__all__ = ["Budget", "Evolution", "Random", "Record", "Space", "Strategy", "Study", "Trial", "search"]
