"""A user's own data: tables and image folders read, completed for PD, written in the release layout."""
