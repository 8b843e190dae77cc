# SPDX-FileCopyrightText: Copyright (c) 2026 rulekeep maintainers
# SPDX-License-Identifier: MIT
