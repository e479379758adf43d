"""What is put on a backbone: the prompt decoder, and heads that are thrown away after training."""
