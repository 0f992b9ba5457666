"""Tables and figures of a run; pure functions of scores, nothing is measured here."""
