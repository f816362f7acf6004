"""From raw Amazon reviews and product photos to evaluated multimodal recommenders."""
