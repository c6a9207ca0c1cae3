"""Arrays -> space, centroids, scores, chosen k, assignments. Pure: no I/O, no Ray, no clock."""
