"""Plain tools: command lines, errors, whole files, drawings, trees of arrays, cores."""
