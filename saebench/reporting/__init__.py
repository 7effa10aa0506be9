"""What people read: terminal, verdict, tables, figures, leaderboard. Never imports torch."""
