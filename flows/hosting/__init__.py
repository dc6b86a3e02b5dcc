"""What conducts a site: its Prefect server and its warm runner, and whoever talks to them."""
