"""What a step is made of: images, crops, masks, prompts, tokens. It knows no network."""
