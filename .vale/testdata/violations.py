"""Docstrings are read: nobody is excepted."""

told = "strings: in words"  # comments: anew
