"""Results of many models in tables in which only what is comparable is ranked (docs/leaderboard.md)."""
