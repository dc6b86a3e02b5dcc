"""What is deployed into a Prefect server, and the settings that it runs with: data, no code."""
