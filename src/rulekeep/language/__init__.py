"""Rules in words: which ones a language model still follows when its cache is compressed."""
