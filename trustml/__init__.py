"""trustml: how far can you trust a classifier?"""
