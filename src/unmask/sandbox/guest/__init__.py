"""Code that runs inside the sandbox with the program: standard library only, and its output is not trusted."""
