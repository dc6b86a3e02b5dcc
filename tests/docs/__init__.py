"""The documentation is part of the product: complete, and true when its commands are typed."""
