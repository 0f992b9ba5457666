"""What ``safeeraser data check`` and ``data stats`` look at: integrity, counts, duplicates, leaks of val into train."""
