"""The three mask sources: functions from an open cube to a mask set; they know nothing of files."""
