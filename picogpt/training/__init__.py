"""The training loop, several cores for one batch, state that survives, and text as token ids."""
