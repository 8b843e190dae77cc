"""Rules in the history of an agent, and what compactors leave of them, round after round."""
