"""Byte-level BPE: encode and decode, learn the merges, read and write Hugging Face's files."""
