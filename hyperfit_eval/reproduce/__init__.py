"""The paper's experiments as steps that resume: `hyperfit reproduce`."""
