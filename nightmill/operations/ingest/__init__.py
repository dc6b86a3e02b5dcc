"""Taking files into the backbone: found, inspected, named, placed, and registered lot by lot."""
