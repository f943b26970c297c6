"""What a person starts to bring a federation to real hospitals."""
