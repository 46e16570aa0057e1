"""Tamperings with the scanner and the envelope, prepared before the mail comes."""
