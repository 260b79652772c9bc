"""Codes of languages, so that ``deu``, ``ger``, ``de`` and ``de-AT`` are known to be one."""

from __future__ import annotations

ENGLISH = "en"
_PAIRS = """
afr:af alb:sq ara:ar arb:ar arm:hy baq:eu bel:be ben:bn bul:bg cat:ca ces:cs chi:zh cmn:zh cym:cy
cze:cs dan:da deu:de dut:nl ell:el eng:en epo:eo est:et eus:eu fas:fa fin:fi fra:fr fre:fr geo:ka
ger:de gla:gd gle:ga glg:gl gre:el heb:he hin:hi hrv:hr hun:hu hye:hy ice:is ind:id isl:is ita:it
jpn:ja kat:ka kor:ko lat:la lav:lv lit:lt mac:mk may:ms mkd:mk msa:ms nld:nl nob:nb nno:nn nor:no
per:fa pes:fa pol:pl por:pt ron:ro rum:ro rus:ru slk:sk slo:sk slv:sl spa:es sqi:sq srp:sr swa:sw
swe:sv tam:ta tha:th tur:tr ukr:uk urd:ur vie:vi wel:cy zho:zh zsm:ms
"""
TWO_LETTERS = {pair[:3]: pair[4:] for pair in _PAIRS.split()}
"""ISO 639-1 codes of languages that tables also call by their codes of ISO 639-2 or 639-3."""


def language_code(name: str) -> str:
    """The short code of a language, without region or script; an unknown code stays as it is."""
    code = name.strip().lower().replace("_", "-").partition("-")[0]
    return TWO_LETTERS.get(code, code)
