"""Search: plain Python that asks. ``search`` tries what ``build`` can be and keeps what fits the budget."""

from shohin.deploy.budget import Budget
from shohin.search.gumbel import Gumbel
from shohin.search.named import STRATEGIES
from shohin.search.oneshot import OneShot
from shohin.search.records import Record, Study
from shohin.search.space import Space, Trial
from shohin.search.strategies import ASHA, Evolution, Random, Strategy
from shohin.search.study import search
from shohin.search.tpe import TPE

__all__ = ["ASHA", "STRATEGIES", "TPE", "Budget", "Evolution", "Gumbel", "OneShot", "Random", "Record", "Space", "Strategy", "Study", "Trial", "search"]
