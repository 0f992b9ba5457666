"""Tables for LaTeX with booktabs; every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "→": r"$\rightarrow$",
    "\n": " ",
}


def escape(text: str) -> str:
    r"""Write a text so that LaTeX prints it as it is.

    Example:
        >>> print(escape("po+pd=0.5 & 80 % of #1_a ↓"))
        po+pd=0.5 \& 80 \% of \#1\_a $\downarrow$
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def booktabs(header: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]], caption: str) -> str:
    r"""A ``table*`` with booktabs: the first column on the left, the others on the right.

    Args:
        header: Titles of the columns; what follows the first blank goes into a second line.
        rows: Cells as (text, small print in the line under it, or nothing).
        caption: Sentence under the table.

    Example:
        >>> print(booktabs(["method", "SARR ↓"], [[("po", ""), ("98.0", "[97, 99]")]], "SARR, in %."))
        % needs \usepackage{booktabs}
        \begin{table*}[t]
          \centering
          \footnotesize
          \setlength{\tabcolsep}{2pt}
          \begin{tabular}{lr}
            \toprule
            method & SARR \\
             & $\downarrow$ \\
            \midrule
            po & 98.0 \\
             & {\tiny [97, 99]} \\
            \bottomrule
          \end{tabular}
          \caption{SARR, in \%.}
          \label{tab:safeeraser}
        \end{table*}
        <BLANKLINE>
    """
    titles = [title.partition(" ") for title in header]
    lines = [" & ".join(escape(first) for first, _, _ in titles)]
    if any(rest for _, _, rest in titles):
        lines.append(" & ".join(escape(rest) for _, _, rest in titles))
    lines.append(r"\midrule")
    for row in rows:
        lines.append(" & ".join(escape(text) for text, _ in row))
        if any(small for _, small in row):
            lines.append(" & ".join(rf"{{\tiny {escape(small)}}}" if small else "" for _, small in row))
    body = [line if line.startswith(r"\midrule") else rf"{line} \\" for line in lines]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table*}[t]",
            r"  \centering",
            r"  \footnotesize",
            r"  \setlength{\tabcolsep}{2pt}",
            rf"  \begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            *[f"    {line}" for line in [r"\toprule", *body, r"\bottomrule"]],
            r"  \end{tabular}",
            rf"  \caption{{{escape(caption)}}}",
            r"  \label{tab:safeeraser}",
            r"\end{table*}",
            "",
        ]
    )
