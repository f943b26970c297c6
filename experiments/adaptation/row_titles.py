"""What tables and sentences call the rows of an adaptation study."""

PROMPT_TITLES = {
    "none": "no prompt",
    "box": "box",
    "points": "points",
    "points-box": "points and box",
}
_NETWORK_TITLES = {"sam": "SAM", "teacher": "Teacher", "student": "Student"}
ROW_TITLES = {
    "direct": "Direct transfer",
    "coarse": "Coarse network",
    "pseudo-labels": "Pseudo-labels themselves",
    "tent": "TENT",
    "tribe": "TRIBE",
    "wesam": "WeSAM*",
    "cpc-sam": "CPC-SAM",
    "pseudo": "SAM, pseudo-labels",
    "ours": "Ours (student)",
    "teacher": "Teacher, box",
    "real": "SAM, real labels",
    **{
        f"{network}-{kind}": f"{title}, {prompt}"
        for network, title in _NETWORK_TITLES.items()
        for kind, prompt in PROMPT_TITLES.items()
    },
}
"""What a table calls a row; a row of another name keeps it."""


def row_title(row: str) -> str:
    """Return what a table calls a row."""
    return ROW_TITLES.get(row, row)
