"""What runs inside the sandbox, beside the program: standard library only, and nothing it says is believed."""
