"""Many runs: a grid planned against a folder, learning rates by one rule, presets."""
