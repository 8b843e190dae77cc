"""The article "An experiment with attention" (wop, May 2026), as published.

`streams` replays its random streams, `models` has its two models, `cell` trains one of
them, `published` compares it with the article, and `leak` shows what its data gives away.
"""
