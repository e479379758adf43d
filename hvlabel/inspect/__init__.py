"""Looking at results: pictures, the report page, the check of every file."""
