"""Numbers and pictures -> one offline HTML folder."""
