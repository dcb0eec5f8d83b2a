"""Raw tables → filtered, training and test tables, on one machine or on Spark; not their acquisition."""
