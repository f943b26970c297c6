"""A strategy of Flower that plays its rounds itself."""

from collections.abc import Iterable

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import Strategy


class OwnRounds(Strategy):
    """Flower's own loop is not used, because a round has more than two exchanges.

    `start` plays them; Flower asks every strategy for these four, too.
    """

    def configure_train(self, *_: object) -> Iterable[Message]:
        """Not used."""
        raise NotImplementedError(self._told)

    def aggregate_train(
        self, *_: object
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Not used."""
        raise NotImplementedError(self._told)

    def configure_evaluate(self, *_: object) -> Iterable[Message]:
        """Not used."""
        raise NotImplementedError(self._told)

    def aggregate_evaluate(self, *_: object) -> MetricRecord | None:
        """Not used."""
        raise NotImplementedError(self._told)

    @property
    def _told(self) -> str:
        return f"{type(self).__name__}.start plays its own rounds."
