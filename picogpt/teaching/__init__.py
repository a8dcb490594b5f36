"""The page about a sentence, the exercises' parts, and usual mistakes."""
