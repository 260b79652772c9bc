"""One self-contained HTML page per run, study or prepared set: a pure function of the files in the folder.

``folders`` reads, ``headline`` finds the words, ``tables`` and ``figures`` lay out the numbers, ``page`` writes the
page with the templates beside it. Nothing here knows an objective, a network or torch.
"""

from __future__ import annotations

from underpaint.report.claims_page import write_claims
from underpaint.report.page import write_report

__all__ = ["write_claims", "write_report"]
