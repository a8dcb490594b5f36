"""The training loop, its windows, several cores for one batch, state that survives, text as ids."""
