"""What is pending: sent by the client, and not settled, so that what the next message means hangs on more than its own bytes.

The fast path takes a message only where nothing is (``Pending.nothing``), or a simple Query that names nothing protected where only
DDL is (``nothing_but_ddl``); the handlers know what each pending thing means for it.
"""

from phiproxy.session.pipeline import Pipeline
from phiproxy.session.state_parts import CatalogChanges, CopyState


class Pending:
    """Of each setting that a statement may change: the last Sync group that may have changed it, until the server tells.

    None: the setting is as it was last told.
    """

    __slots__ = (
        "_catalog", "_copy", "_pipeline", "announcement", "catalog", "encoding", "encoding_set", "path", "schemas", "styles",
    )  # fmt: skip

    def __init__(self, pipeline: Pipeline, catalog: CatalogChanges, copy: CopyState) -> None:
        self._pipeline = pipeline
        self._catalog = catalog
        self._copy = copy
        # The search path; the end of the transaction may take the change back.
        self.path: int | None = None
        # How values are spelled; likewise.
        self.styles: int | None = None
        # client_encoding or standard_conforming_strings, until the next ReadyForQuery …
        self.encoding: int | None = None
        # … and whether a transaction that has set one of them may take that back.
        self.encoding_set: int | None = None
        # The catalogue, by DDL of the session's own, until it is read again (``transaction_catalog``).
        self.catalog: int | None = None
        # DDL that names something protected, or changes what other sessions call or find: other proxies are told when its
        # transaction has ended.
        self.announcement: int | None = None
        # DDL that may change which schemas others have on their path: they are to ask for it again then.
        self.schemas: int | None = None

    @property
    def nothing(self) -> bool:
        """Tell whether nothing is pending: no change of a setting, no DDL, no COPY, no error or result that is being skipped."""
        return self.catalog is None and self._catalog.overlay is None and self.nothing_but_ddl

    @property
    def nothing_but_ddl(self) -> bool:
        """Tell the same, whatever DDL of the session's own has made of the catalogue."""
        pipeline, catalog = self._pipeline, self._catalog
        return (
            self.path is None
            and not (pipeline.skipping or pipeline.copy_in or pipeline.ignored or pipeline.discarding)
            and not (pipeline.silent or catalog.fresh)
            and self._copy.rows is None
            and self.styles is None
            and self.encoding is None
            and self.encoding_set is None
            and self.announcement is None
            and self.schemas is None
        )
