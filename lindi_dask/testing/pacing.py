"""One link of limited pace, shared by all connections."""

PIECE_NBYTES = 64 * 1024
"""The largest piece that a paced body is cut into, in bytes."""

BURST_S = 0.005
"""How long a link may lie idle and have it made good later, in seconds: a timer wakes up late by about as much."""


class Link:
    """A reservation clock: each piece is given the time at which its last byte has passed.

    Pieces of several connections queue in the order in which they were reserved, so that the
    connections share the pace.
    """

    def __init__(self) -> None:
        self._free_at_s = 0.0

    def reserve(self, nbytes: int, *, bytes_per_s: float | None, now_s: float) -> float:
        """Take the link for a piece.

        Parameters
        ----------
        nbytes
            Size of the piece, in bytes.
        bytes_per_s
            The link's pace, in bytes a second; None: no limit.
        now_s
            Seconds, any monotonic clock, the same one at each call.

        Returns
        -------
        float
            Seconds from now until the piece has passed; 0 when it need not wait.
        """
        if bytes_per_s is None:
            self._free_at_s = 0.0
            return 0.0
        self._free_at_s = max(self._free_at_s, now_s - BURST_S) + nbytes / bytes_per_s
        return max(0.0, self._free_at_s - now_s)
