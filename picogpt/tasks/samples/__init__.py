"""Small samples of the four tasks, written for this project; tasks.py says when they are used."""
