"""What tests share: servers, marks, and the list of requirements."""
