"""One verb a file, independent of each other: functions that return values and print nothing."""
